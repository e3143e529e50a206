//! The tokenizer: pixels to ids and back.

use std::{path::Path, sync::OnceLock};

use candle_core::{Device, Module as _, Tensor};
use rayon::prelude::*;
use vqlc_ops::{
    NearestIndex,
    tensor::{download, upload},
};

use crate::{
    DeviceSpec, Error, ModelDigests, Precision, Result, VqganConfig,
    file::{CODEBOOK, ModelFile},
    network::{Decoder, Encoder},
    params::{RandomParams, StrictParams, Tensors},
    rng::Rng,
};

/// A VQGAN-LC tokenizer on a device.
///
/// On the CPU every picture goes through the network by itself, so ids depend neither on the batch nor on the number of
/// threads. On CUDA a batch runs as one, and ids near a tie may differ from the CPU's.
pub struct Tokenizer {
    config: VqganConfig,
    digests: ModelDigests,
    device: Device,
    encoder: Encoder,
    decoder: Decoder,
    /// B' `[n_codes, embed_dim]`, row-major.
    codebook: Vec<f32>,
    /// The same on a GPU, which searches it there.
    on_device: Option<Tensor>,
    /// What `codebook` is searched in on the CPU, built when the first picture is encoded: decoding does without.
    index: OnceLock<std::result::Result<NearestIndex, vqlc_ops::Error>>,
}

impl Tokenizer {
    /// Builds the tokenizer of a model.
    ///
    /// # Errors
    /// A tensor missing, left over or of another shape than the configuration asks for.
    pub fn new(model: &ModelFile, device: &Device) -> Result<Self> {
        Self::with_precision(model, device, Precision::F32)
    }

    /// As [`Self::new`], for a network that multiplies in `precision`.
    ///
    /// # Errors
    /// Those too of [`Precision::check`].
    pub fn with_precision(
        model: &ModelFile,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        precision.check(device)?;
        let (config, compute) = (model.config().clone(), precision.dtype());
        let encoder = StrictParams::build_for(model.encoder_tensors(), device, compute, |vb| {
            Encoder::new(&config, vb)
        })?;
        let decoder = StrictParams::build_for(model.decoder_tensors(), device, compute, |vb| {
            Decoder::new(&config, vb)
        })?;
        let codebook = model.codebook()?;
        NearestIndex::check(&codebook, config.embed_dim)?;
        let on_device = device
            .is_cuda()
            .then(|| Tensor::from_slice(&codebook, (config.n_codes, config.embed_dim), device))
            .transpose()?;
        Ok(Self {
            on_device,
            digests: *model.digests(),
            device: device.clone(),
            config,
            encoder,
            decoder,
            codebook,
            index: OnceLock::new(),
        })
    }

    /// Reads a model file, verifies its digests and builds its tokenizer.
    ///
    /// # Errors
    /// As [`ModelFile::read`] and [`DeviceSpec::open`].
    pub fn from_file(path: &Path, device: DeviceSpec) -> Result<Self> {
        Self::new(&ModelFile::read(path)?, &device.open()?)
    }

    /// As [`Self::from_file`], from the file's bytes.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn from_bytes(bytes: &[u8], device: DeviceSpec) -> Result<Self> {
        Self::new(&ModelFile::from_bytes(bytes)?, &device.open()?)
    }

    /// A tokenizer with random weights that depend on `config` and `seed` alone, for measuring and for tests.
    ///
    /// # Errors
    /// [`Error::Config`], or a device that cannot be used.
    pub fn random(
        config: &VqganConfig,
        seed: u64,
        device: DeviceSpec,
        precision: Precision,
    ) -> Result<Self> {
        Self::with_precision(&random_model(config, seed)?, &device.open()?, precision)
    }

    /// The network's configuration.
    pub fn config(&self) -> &VqganConfig {
        &self.config
    }

    /// Pixels a side that one token stands for.
    pub fn factor(&self) -> usize {
        self.config.factor()
    }

    /// Number of codebook entries; ids are below it.
    pub fn codebook_size(&self) -> u32 {
        // The configuration was checked to hold at most 2^24 entries.
        self.config.n_codes as u32
    }

    /// The projected table B', row-major `[n_codes, embed_dim]`.
    pub fn codebook(&self) -> &[f32] {
        &self.codebook
    }

    /// The digests token files name this tokenizer by.
    pub fn digests(&self) -> &ModelDigests {
        &self.digests
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes that encoding or decoding one picture of `height` x `width` pixels takes at its peak on the CPU, roughly.
    ///
    /// Counted in maps of the widest level: a block's input, what it becomes, a padded copy, and what was kept for the next are alive
    /// together. Measured with the embedded model at 1600 x 1200, process and all: 0.65 GB to encode, 0.90 GB to decode; this says 0.98.
    /// It is kept for the next picture of the same size, by encoder and decoder each.
    pub fn memory_estimate(&self, height: usize, width: usize) -> u64 {
        const MAPS_ALIVE: u64 = 4;
        let widest = (self.config.ch_mult.iter().enumerate())
            .map(|(level, mult)| ((self.config.ch * mult) as u64) >> (2 * level))
            .chain([
                self.config.ch as u64 * self.config.ch_mult.first().copied().unwrap_or(1) as u64
            ])
            .max()
            .unwrap_or(1);
        // The decoder's level 0 starts with the upsampled map of level 1's channels.
        let upsampled = self
            .config
            .ch_mult
            .get(1)
            .map_or(0, |&mult| (self.config.ch * mult) as u64);
        let pixels = (height as u64).saturating_mul(width as u64);
        pixels.saturating_mul(4 * MAPS_ALIVE * widest.max(upsampled))
    }

    /// Pixels to token ids.
    ///
    /// `pixels`: `[batch, 3, height, width]` f32 in [-1, 1]; `height` and `width` multiples of the factor f.
    /// Returns ids `[batch, height/f, width/f]`.
    ///
    /// # Errors
    /// [`Error::Argument`] when lengths and sizes do not agree.
    pub fn encode(
        &self,
        pixels: &[f32],
        batch: usize,
        height: usize,
        width: usize,
    ) -> Result<Vec<u32>> {
        expect_multiple("height", height, self.factor())?;
        expect_multiple("width", width, self.factor())?;
        expect_len("pixels", pixels.len(), &[batch, 3, height, width])?;
        let picture = 3 * height * width;
        self.each_or_batch(pixels, batch, picture, |pixels, batch| {
            self.encode_tensor(&upload(pixels, (batch, 3, height, width), &self.device)?)
        })
    }

    /// Token ids to pixels: ids `[batch, rows, cols]` to `[batch, 3, rows*f, cols*f]` f32, about [-1, 1], not clamped.
    ///
    /// # Errors
    /// [`Error::IdOutOfRange`]; [`Error::Argument`] when lengths and sizes do not agree.
    pub fn decode(&self, ids: &[u32], batch: usize, rows: usize, cols: usize) -> Result<Vec<f32>> {
        expect_multiple("rows", rows, 1)?;
        expect_multiple("cols", cols, 1)?;
        expect_len("ids", ids.len(), &[batch, rows, cols])?;
        self.each_or_batch(ids, batch, rows * cols, |ids, batch| {
            Ok(download(
                &self.decode_tensor(&self.lookup(ids, batch, rows, cols)?)?,
            )?)
        })
    }

    /// On the CPU one picture at a time, as many side by side as there are threads; on CUDA all at once.
    fn each_or_batch<I: Sync, O: Send>(
        &self,
        input: &[I],
        batch: usize,
        len: usize,
        run: impl Fn(&[I], usize) -> Result<Vec<O>> + Sync,
    ) -> Result<Vec<O>> {
        if !self.device.is_cpu() {
            return run(input, batch);
        }
        let mut out = Vec::new();
        // Round by round, so that no more than one picture a thread is in memory.
        for round in input.chunks(len * rayon::current_num_threads()) {
            let parts: Vec<Vec<O>> = round
                .par_chunks(len)
                .map(|one| run(one, 1))
                .collect::<Result<_>>()?;
            out.extend(parts.into_iter().flatten());
        }
        Ok(out)
    }

    /// As [`Self::encode`] from a tensor `[b, 3, h, w]` on this device, all of it at once.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn encode_tensor(&self, pixels: &Tensor) -> Result<Vec<u32>> {
        self.quantize(&self.latent(pixels)?)
    }

    /// The latent z `[b, embed_dim, h/f, w/f]` of pixels `[b, 3, h, w]`, before quantisation.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn latent(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.encoder.forward(pixels)?)
    }

    /// Ids `[b, h, w]` of the entries nearest to z `[b, embed_dim, h, w]`; ties go to the lower id.
    ///
    /// # Errors
    /// [`Error::Search`], on a GPU [`Error::Tensor`], when z is not finite.
    pub fn quantize(&self, z: &Tensor) -> Result<Vec<u32>> {
        let queries = z.permute((0, 2, 3, 1))?.contiguous()?;
        if let Some(codebook) = &self.on_device {
            let queries = queries.reshape(((), self.config.embed_dim))?;
            return Ok(vqlc_ops::tensor::nearest(&queries, codebook)?.to_vec1()?);
        }
        let queries: Vec<f32> = queries.flatten_all()?.to_vec1()?;
        let mut ids = vec![0; queries.len() / self.config.embed_dim];
        self.index()?.search(&queries, &mut ids)?;
        Ok(ids)
    }

    /// Builds what ids are searched in, if it is not there: takes a while, and [`Self::encode`] does it on its own. On another thread it
    /// is ready when the first latents are.
    ///
    /// # Errors
    /// None for a codebook that was checked.
    pub fn prepare_search(&self) -> Result<()> {
        match self.on_device {
            Some(_) => Ok(()),
            None => self.index().map(drop),
        }
    }

    fn index(&self) -> Result<&NearestIndex> {
        // Building it never waits for a thread pool, so no task that waits here is one that it waits for.
        let build = || NearestIndex::build(&self.codebook, self.config.embed_dim);
        let built = self.index.get_or_init(build).as_ref();
        built.map_err(|error| error.clone().into())
    }

    /// z_q `[batch, embed_dim, rows, cols]`: the codebook entry of each id `[batch, rows, cols]`.
    ///
    /// # Errors
    /// [`Error::IdOutOfRange`]; [`Error::Argument`] when the length does not agree.
    pub fn lookup(&self, ids: &[u32], batch: usize, rows: usize, cols: usize) -> Result<Tensor> {
        expect_len("ids", ids.len(), &[batch, rows, cols])?;
        let dim = self.config.embed_dim;
        let mut entries = Vec::with_capacity(ids.len() * dim);
        for &id in ids {
            let start = id as usize * dim;
            let entry = self.codebook.get(start..start + dim);
            let out_of_range = Error::IdOutOfRange {
                id,
                codebook_size: self.codebook_size(),
            };
            entries.extend_from_slice(entry.ok_or(out_of_range)?);
        }
        let z_q = upload(entries, (batch, rows, cols, dim), &self.device)?;
        Ok(z_q.permute((0, 3, 1, 2))?.contiguous()?)
    }

    /// z_q `[b, embed_dim, h, w]` to pictures `[b, 3, h*f, w*f]`, about [-1, 1], not clamped.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn decode_tensor(&self, z_q: &Tensor) -> Result<Tensor> {
        Ok(self.decoder.forward(z_q)?)
    }
}

/// A model with random weights that depend on `config` and `seed` alone; its codebook is standard normal.
///
/// # Errors
/// [`Error::Config`].
pub fn random_model(config: &VqganConfig, seed: u64) -> Result<ModelFile> {
    config.check()?;
    let (_, mut tensors) = RandomParams::build(seed, &Device::Cpu, |vb| Encoder::new(config, vb))?;
    let (_, decoder) = RandomParams::build(seed, &Device::Cpu, |vb| Decoder::new(config, vb))?;
    tensors.extend::<Tensors>(decoder);
    let mut rng = Rng::new(seed);
    let table: Vec<f32> = (0..config.n_codes * config.embed_dim)
        .map(|_| rng.normal() as f32)
        .collect();
    tensors.insert(
        CODEBOOK.into(),
        Tensor::from_vec(table, (config.n_codes, config.embed_dim), &Device::Cpu)?,
    );
    ModelFile::new(
        config.clone(),
        format!("random weights, seed {seed}"),
        tensors,
        None,
    )
}

fn expect_len(what: &'static str, found: usize, shape: &[usize]) -> Result<()> {
    let expected = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    if expected == Some(found) {
        return Ok(());
    }
    let expected = format!("the values of shape {shape:?}");
    Err(Error::Argument {
        what,
        expected,
        found: format!("{found} values"),
    })
}

fn expect_multiple(what: &'static str, found: usize, factor: usize) -> Result<()> {
    if found > 0 && found.is_multiple_of(factor) {
        return Ok(());
    }
    Err(Error::Argument {
        what,
        expected: format!("a multiple of {factor} above 0"),
        found: found.to_string(),
    })
}
