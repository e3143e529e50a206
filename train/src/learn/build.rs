//! Putting a run together.

use std::{fs, path::Path, sync::Arc};

use candle_core::Device;
use vqlc_model::{Precision, Tokenizer, params::RandomParams};

use super::{
    LearnConfig, LearnTrainer, Setting, build, feed::Data, file::codebook, resume::State,
    system::prepare,
};
use crate::{
    Error, Params, Result,
    checkpoint::Store,
    files::write_whole,
    optim::{Adam, AdamConfig, Ema, Schedule},
    run::{Parts, Progress, Traces},
    tokens::TokenSet,
};

impl LearnTrainer {
    /// Prepares a run in the folder `out`: a new one, or with `resume` the one there, from its newest checkpoint. `tokenizer` is what the
    /// ids are of.
    ///
    /// # Errors
    /// [`Error::RunExists`], [`Error::NoCheckpoint`], [`Error::Config`], [`Error::OtherTokenizer`]; files that are not what they should be.
    pub fn new(
        config: LearnConfig,
        out: &Path,
        tokenizer: Arc<Tokenizer>,
        device: &Device,
        resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let folder = out.join("checkpoints");
        if !resume && folder.exists() {
            return Err(Error::RunExists { folder: out.into() });
        }
        if config.run.precision == Precision::Bf16 && device.is_cpu() {
            let why =
                "run.precision is bf16, which these networks take on a GPU only: set it to f32";
            return Err(Error::Config(why.into()));
        }
        let (data, facts) = Data::open(&config, &tokenizer)?;
        facts.check()?;
        facts.expect_of(&tokenizer)?;
        let val = match (&data, config.data.val.is_empty()) {
            (Data::Tokens(_), false) => {
                let val = TokenSet::open(&config.data.val)?;
                facts.expect_like(&val)?;
                Some(val)
            }
            _ => None,
        };
        let store = Store::new(&folder, config.checkpoint.keep);
        let found = match resume.then(|| store.newest()).transpose()? {
            Some(None) => return Err(Error::NoCheckpoint { folder: out.into() }),
            found => found.flatten(),
        };
        let step = found.as_ref().map_or(0, |found| found.step);
        let state = found
            .as_ref()
            .map(|found| State::of(&folder, &found.tensors));
        let state = state.transpose()?;
        let from = state.as_ref().map(|state| &state.position);
        let feed = data.feed(&config, &tokenizer, from)?;
        let scale = match state {
            Some(state) if state.facts != facts => {
                let why = "its tokenizer, grid or classes are not those of the run to go on with";
                return Err(Error::Config(format!("the data has changed: {why}")));
            }
            Some(state) => state.scale,
            None if config.model.looks_up() => Some(data.scale(&config, &facts, &tokenizer)?),
            None => None,
        };

        let seed = config.run.seed;
        if config.model.kind().takes_latents() {
            progress.note(match data {
                Data::Tokens(_) => "learns on z_q, looked up from ids",
                Data::Pictures { .. } => "learns on z of pictures, before it is quantised",
            });
        }
        let setting = Setting {
            codebook: codebook(&tokenizer, device)?,
            scale,
            facts,
        };
        let section = &config.model;
        let (_, mut drawn) = RandomParams::build(seed, &Device::Cpu, |vb| {
            let on_host = Setting {
                codebook: setting.codebook.to_device(&Device::Cpu)?,
                ..setting.clone()
            };
            build(section, &on_host, &vb)
        })?;
        if !resume {
            prepare(section, &setting, &mut drawn, seed, &mut |text| {
                progress.note(text)
            })?;
        }
        let compute = config.run.precision.dtype();
        let (system, params) =
            Params::from_tensors(&drawn, device, compute, |vb| build(section, &setting, &vb))?;
        fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        let mut trainer = Self {
            adam: Adam::new(AdamConfig::of(&config.optimizer))?,
            ema: (config.run.ema > 0.0)
                .then(|| Ema::new(config.run.ema, &params))
                .transpose()?,
            schedule: Schedule::new(&config.optimizer, config.run.steps)?,
            traces: Traces::new(out, step)?,
            parts: Parts::new(config.run.accumulate, device)?,
            device: device.clone(),
            continuous: matches!(data, Data::Pictures { .. }),
            measured: None,
            step: 0,
            system,
            params,
            setting,
            feed,
            val,
            store,
            tokenizer,
            config,
        };
        if let Some(found) = &found {
            trainer.load(found, progress)?;
        }
        // Last: a configuration that does not fit the run's checkpoint must not take the place of the one that does.
        write_whole(
            &out.join("config.toml"),
            trainer.config.to_toml()?.as_bytes(),
        )?;
        Ok(trainer)
    }
}
