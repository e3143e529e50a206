//! Exit codes, and how an error becomes one line on stderr and one of them.

use std::io;

/// What the process says to the shell. The table in the README lists these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// Wrong usage, or an error that stopped the work.
    Error = 1,
    /// The work was done but some pictures could not be read, saved or written; they were listed.
    Skipped = 3,
    /// A token file is damaged.
    Damaged = 4,
    /// A token file belongs to another tokenizer than the model given.
    WrongModel = 5,
    /// Stopped by Ctrl-C or SIGTERM; what was done can be resumed where the command has `--resume`.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Put into an error chain (`err.context(Exit::WrongModel)` or `bail_with`) to choose the exit code; without one it is [`Exit::Error`].
#[derive(Debug)]
pub(crate) struct WithExit {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl std::fmt::Display for WithExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WithExit {}

/// An error that ends the process with `exit`.
pub(crate) fn fail(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(WithExit {
        exit,
        message: message.into(),
    })
}

/// The exit code an error stands for: an explicit one, else damage reported by the format crate, else 1.
pub(crate) fn code_of(err: &anyhow::Error) -> Exit {
    for cause in err.chain() {
        if let Some(with) = cause.downcast_ref::<WithExit>() {
            return with.exit;
        }
        if let Some(format) = cause.downcast_ref::<vqlc_format::Error>()
            && format.is_damage()
        {
            return Exit::Damaged;
        }
        match cause.downcast_ref() {
            Some(vqlc_train::Error::OtherTokenizer { .. }) => return Exit::WrongModel,
            Some(vqlc_train::Error::Tokens { source, .. }) if source.is_damage() => {
                return Exit::Damaged;
            }
            _ => {}
        }
        // A reader that went away (`vqlc info x | head`) is not an error.
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::BrokenPipe
        {
            return Exit::Ok;
        }
    }
    Exit::Error
}

/// An error and its causes as one line; a cause whose text the one before ends with is not said twice. Names out of files may stand in it:
/// their control characters are escaped, so that none acts on a terminal.
pub(crate) fn line(err: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in err.chain() {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    crate::report::shown(line.replace(['\n', '\r'], " ").as_bytes())
}

/// Prints `vqlc: what: why` on stderr (one line) and gives the exit code.
pub(crate) fn report(err: &anyhow::Error) -> Exit {
    let exit = code_of(err);
    if exit != Exit::Ok {
        crate::report::say(&format!("vqlc: {}", line(err)));
    }
    exit
}

/// `--help` and `--version` are answers, on stdout with code 0; anything else clap says is wrong usage, code 1.
pub(crate) fn from_clap(err: &clap::Error) -> std::process::ExitCode {
    // A closed stdout is not worth a second error.
    let _ = err.print();
    if err.use_stderr() {
        Exit::Error.into()
    } else {
        Exit::Ok.into()
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn an_error_is_one_line_without_control_characters() {
        let error = anyhow::anyhow!("tensor w\n\x1b[31mred\u{9b}2J\tgrün").context("a\r\nb");
        let expected = "a  b: tensor w \\u{1b}[31mred\\u{9b}2J\\tgrün";
        assert_eq!(line(&error), expected);
    }
}
