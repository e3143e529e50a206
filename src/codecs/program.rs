//! Running programs that may fail, hang or say too much.

use std::{
    ffi::OsString,
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};

use crate::{
    exit::{self, Exit},
    interrupt,
};

/// Longer than any picture takes.
const LIMIT: Duration = Duration::from_secs(600);
/// Between two looks whether a program has ended: at first, and at most.
const LOOK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];
/// Of what a program says so much is kept, the last of it.
const KEPT: usize = 1 << 14;
/// Of a line that a program says so many characters are shown.
const SHOWN: usize = 200;
/// Its streams may be held open by what it started.
const STREAMS: Duration = Duration::from_secs(2);

/// Runs a program to its end; what it says on stderr is told where it fails.
///
/// # Errors
/// It cannot be started, fails, takes ten minutes; Ctrl-C.
pub(super) fn run(program: &Path, args: &[OsString]) -> anyhow::Result<()> {
    ended(program, args, Stdio::null(), LIMIT).map(drop)
}

/// The first line that a program says, on either stream.
///
/// # Errors
/// As [`run`]; it says nothing.
pub(super) fn said(program: &Path, args: &[OsString]) -> anyhow::Result<String> {
    let streams = ended(program, args, Stdio::piped(), LIMIT)?;
    let mut lines = streams.iter().flat_map(|text| lines(text));
    (lines.next()).with_context(|| format!("{} says no version", program.display()))
}

/// Whether a path names a file that may be run.
pub(super) fn is_executable(file: &Path) -> bool {
    #[cfg(unix)]
    let runs = |found: &std::fs::Metadata| {
        use std::os::unix::fs::PermissionsExt as _;
        found.permissions().mode() & 0o111 != 0
    };
    #[cfg(not(unix))]
    let runs = |_: &std::fs::Metadata| true;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && runs(&found))
}

/// What a program that ended well said on stdout, where that is a pipe, and on stderr.
fn ended(
    program: &Path,
    args: &[OsString],
    stdout: Stdio,
    limit: Duration,
) -> anyhow::Result<[Vec<u8>; 2]> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let mut child = command
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let out = child.stdout.take().map(last_of);
    let err = child.stderr.take().map(last_of);
    let status = wait(&mut child, program, limit)?;
    let [out, err] = [out, err].map(|stream| {
        let text = stream.and_then(|text| text.recv_timeout(STREAMS).ok());
        text.unwrap_or_default()
    });
    if status.success() {
        return Ok([out, err]);
    }
    let why = lines(&err).last().map(|line| format!(": {line}"));
    Err(anyhow!(
        "{} failed ({status}){}",
        program.display(),
        why.unwrap_or_default()
    ))
}

/// Waits for a program's end, and makes one where it takes too long or the work is to stop.
fn wait(child: &mut Child, program: &Path, limit: Duration) -> anyhow::Result<ExitStatus> {
    let context = || format!("cannot wait for {}", program.display());
    let start = Instant::now();
    let [mut pause, longest] = LOOK;
    loop {
        if let Some(status) = child.try_wait().with_context(context)? {
            return Ok(status);
        }
        let stop = interrupt::requested();
        if stop || start.elapsed() >= limit {
            // One that has ended meanwhile needs no more.
            let _ = child.kill();
            child.wait().with_context(context)?;
            let program = program.display();
            if stop {
                return Err(exit::fail(
                    Exit::Interrupted,
                    format!("{program} was stopped"),
                ));
            }
            bail!("{program} did not end within {} s", limit.as_secs_f64());
        }
        thread::sleep(pause);
        pause = longest.min(pause * 2);
    }
}

/// Reads a stream to its end and hands over the last of it.
fn last_of(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        let (mut kept, mut part) = (Vec::new(), [0; 4096]);
        // A stream that breaks has ended.
        while let Ok(count @ 1..) = stream.read(&mut part) {
            kept.extend_from_slice(&part[..count]);
            let over = kept.len().saturating_sub(KEPT);
            kept.drain(..over);
        }
        // Nobody waits for it any more where the program was killed.
        let _ = give.send(kept);
    });
    take
}

/// Lines with something in them, without what would steer a terminal.
fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let clean = |line: &str| {
        let kept = line.chars().filter(|c| !c.is_control());
        let kept: String = kept.collect();
        kept.trim().chars().take(SHOWN).collect::<String>()
    };
    text.lines()
        .map(clean)
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> anyhow::Result<[Vec<u8>; 2]> {
        let args = ["-c", script].map(OsString::from);
        ended(Path::new("/bin/sh"), &args, Stdio::piped(), limit)
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let error = shell("exec sleep 100000", Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh did not end within 0.02 s");
    }

    #[test]
    fn of_much_that_is_said_the_last_is_kept() {
        let script = "i=0; while [ $i -lt 4000 ]; do echo 0123456789 $i; i=$((i + 1)); done; echo the end >&2";
        let [out, err] = shell(script, LIMIT).unwrap();
        assert_eq!(out.len(), KEPT);
        assert!(out.ends_with(b" 3999\n"));
        assert_eq!(err, b"the end\n");
    }

    #[test]
    fn what_is_said_steers_no_terminal_and_is_short() {
        let long = "x".repeat(1000);
        let text = format!(" \n\x1b[31mversion 1\x07\r\n{long}");
        let found = lines(text.as_bytes());
        assert_eq!(found[0], "[31mversion 1");
        assert_eq!((found.len(), found[1].len()), (2, SHOWN));
        let version =
            |script: &str| said(Path::new("/bin/sh"), &["-c", script].map(OsString::from));
        assert_eq!(version("echo; echo one >&2").unwrap(), "one");
        let silent = version("exit 0").unwrap_err().to_string();
        assert_eq!(silent, "/bin/sh says no version");
        let failed = version("echo 1.0; exit 2").unwrap_err().to_string();
        assert_eq!(failed, "/bin/sh failed (exit status: 2)");
    }

    #[test]
    fn only_files_that_may_be_run_are_programs() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cjpeg");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        for (mode, runs) in [(0o644, false), (0o755, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_executable(&file), runs);
        }
        assert!(!is_executable(folder.path()));
    }
}
