//! From latents to entries of a codebook: VQGAN-LC's quantizer and the three it is compared with (paper section 3.2, table 2).
//!
//! Latents are `[b, dim, h, w]`; token ids come in the order (b, h, w). Search and losses are computed in f32 whatever the latents' dtype.

mod align;
mod config;
mod factorised;
mod learnt;
mod moving;
mod projected;

pub use align::{align_projector, relative_error};
pub use config::{Kind, QuantizerConfig};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use vqlc_model::params::Tensors;

use self::{factorised::Factorised, learnt::Learnt, moving::Moving, projected::Projected};
use crate::{Error, Params, Result};

/// What quantizing a batch of latents gives.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// What the decoder gets: the entries' values, with gradients that go straight through to the latents. Shape and dtype of the latents.
    pub z_q: Tensor,
    /// Token ids, u32 `[b*h*w]`, in the order (b, h, w).
    pub ids: Tensor,
    /// mean((sg(z_q) - z)^2), an f32 scalar: pulls the latents to their entries.
    pub commit: Tensor,
    /// mean((z_q - sg(z))^2), an f32 scalar: pulls the entries to their latents. 0 where the entries are moving averages.
    pub codebook_loss: Tensor,
    /// `commit + beta * codebook_loss`.
    pub loss: Tensor,
}

/// A quantizer in training.
pub struct Quantizer {
    config: QuantizerConfig,
    inner: Inner,
    params: Params,
}

enum Inner {
    Lc(Projected),
    Vq(Learnt),
    Fc(Factorised),
    Ema(Moving),
}

/// Latents and their entries, row by row, in the space where they are compared.
struct Match {
    /// Latents `[m, d]`, f32, with their gradient.
    z: Tensor,
    /// Entries `[m, d]`, f32, with the gradient of what they are made of.
    q: Tensor,
    ids: Tensor,
}

impl Quantizer {
    /// A quantizer with parameters drawn from `seed`.
    ///
    /// `codebook` is the static codebook `[codes, D]` of lc, which must be given, or where the table `[codes, dim]` of vq and ema or the
    /// codebook `[codes, fc_dim]` of fc starts. Without, vq is drawn uniformly within 1/codes, the others from a standard normal
    /// distribution.
    ///
    /// # Errors
    /// [`Error::Config`]; a codebook of another shape or with numbers that are not finite.
    pub fn new(
        config: &QuantizerConfig,
        codebook: Option<&Tensor>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        let config = *config;
        let book = codebook
            .map(|book| checked_codebook(&config, book, device))
            .transpose()?;
        let (inner, params) = match config.kind {
            Kind::Lc => {
                let book = book.ok_or_else(|| {
                    Error::Config("the lc quantizer needs a static codebook".into())
                })?;
                let (lc, params) = Projected::new(&config, book, seed, device)?;
                (Inner::Lc(lc), params)
            }
            Kind::Vq => {
                let build = |vb: VarBuilder| Learnt::new(&config, &vb);
                let (vq, params) = with_start(book, learnt::TABLE, seed, device, build)?;
                (Inner::Vq(vq), params)
            }
            Kind::Fc => {
                let build = |vb: VarBuilder| Factorised::new(&config, &vb);
                let (fc, params) = with_start(book, factorised::TABLE, seed, device, build)?;
                (Inner::Fc(fc), params)
            }
            Kind::Ema => {
                let ema = Moving::new(&config, book, seed, device)?;
                (Inner::Ema(ema), Params::default())
            }
        };
        Ok(Self {
            config,
            inner,
            params,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &QuantizerConfig {
        &self.config
    }

    /// What gradients train: nothing where the table is a moving average, or where a frozen codebook has no projector.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Quantizes `z` `[b, dim, h, w]`. Without `train` nothing that is returned has a gradient.
    ///
    /// # Errors
    /// Latents of another shape, or that are not finite; a tensor operation's.
    pub fn forward(&self, z: &Tensor, train: bool) -> Result<Quantized> {
        let (batch, dim, height, width) = z.dims4()?;
        if dim != self.config.dim {
            return Err(Error::Argument {
                what: "channels of the latents",
                expected: self.config.dim.to_string(),
                found: dim.to_string(),
            });
        }
        let detached;
        let z = if train {
            z
        } else {
            detached = z.detach();
            &detached
        };
        let rows = to_rows(z)?;
        let Match { z: y, q, ids } = match &self.inner {
            Inner::Lc(lc) => lc.find(rows)?,
            Inner::Vq(vq) => vq.find(rows)?,
            Inner::Fc(fc) => fc.find(rows)?,
            Inner::Ema(ema) => ema.find(rows)?,
        };
        let commit = (q.detach() - &y)?.sqr()?.mean_all()?;
        let codebook_loss = match &self.inner {
            Inner::Ema(_) => commit.zeros_like()?.detach(),
            _ => (&q - y.detach())?.sqr()?.mean_all()?,
        };
        let loss = (&commit + (&codebook_loss * self.config.beta)?)?;
        // The entry's value, and the gradient of the latent.
        let mut straight = (&y + (&q - &y)?.detach())?;
        if let Inner::Fc(fc) = &self.inner {
            straight = fc.to_decoder(&straight)?;
        }
        let z_q = straight
            .reshape((batch, height, width, dim))?
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .to_dtype(z.dtype())?;
        let last = |t: Tensor| if train { t } else { t.detach() };
        Ok(Quantized {
            z_q: last(z_q),
            ids,
            commit: last(commit),
            codebook_loss: last(codebook_loss),
            loss: last(loss),
        })
    }

    /// Ends a training step with its latents `[b, dim, h, w]` and their ids, all parts of the batch together: moves the table of ema;
    /// nothing to do for the others.
    ///
    /// # Errors
    /// Shapes that do not fit; a tensor operation's.
    pub fn after_step(&mut self, z: &Tensor, ids: &Tensor) -> Result<()> {
        match &mut self.inner {
            Inner::Ema(ema) => ema.update(&to_rows(z)?, ids),
            Inner::Lc(_) | Inner::Vq(_) | Inner::Fc(_) => Ok(()),
        }
    }

    /// The table `[codes, dim]` that a model file holds, without gradients: latents are searched in it, and the decoder gets its rows.
    ///
    /// # Errors
    /// [`Error::Config`] for fc, which has none: it normalises projected latents before the search, which no linear layer of an encoder
    /// can stand for, so such a model is for comparison only.
    pub fn table(&self) -> Result<Tensor> {
        match &self.inner {
            Inner::Lc(lc) => lc.table(),
            Inner::Vq(vq) => Ok(vq.table()),
            Inner::Ema(ema) => Ok(ema.table()),
            Inner::Fc(_) => Err(Error::Config(
                "a model with the fc quantizer cannot be exported: its search is among normalised projections of the latents".into(),
            )),
        }
    }

    /// What lc's table is made of, under the names of published checkpoints: the codebook and the projector.
    ///
    /// # Errors
    /// [`Error::Config`] for a quantizer without projector.
    pub fn published(&self) -> Result<Tensors> {
        match &self.inner {
            Inner::Lc(lc) => lc.published(),
            Inner::Vq(_) | Inner::Fc(_) | Inner::Ema(_) => Err(no_projector()),
        }
    }

    /// What is neither a parameter nor given at construction, by name: the moving averages of ema.
    pub fn state(&self) -> Tensors {
        match &self.inner {
            Inner::Ema(ema) => ema.state(),
            Inner::Lc(_) | Inner::Vq(_) | Inner::Fc(_) => Tensors::new(),
        }
    }

    /// Goes on from a state that [`Self::state`] returned.
    ///
    /// # Errors
    /// A tensor that is missing, left over, or of another shape; nothing is changed then.
    pub fn load_state(&mut self, state: &Tensors) -> Result<()> {
        match &mut self.inner {
            Inner::Ema(ema) => ema.load_state(state),
            Inner::Lc(_) | Inner::Vq(_) | Inner::Fc(_) => match state.keys().next() {
                None => Ok(()),
                Some(first) => Err(vqlc_model::Error::ExtraTensors {
                    first: first.clone(),
                    count: state.len(),
                }
                .into()),
            },
        }
    }

    /// Sets the projector of lc so that the projected codebook has the mean and covariance of the latents `z` `[b, dim, h, w]`
    /// ([`align_projector`]).
    ///
    /// # Errors
    /// [`Error::Config`] for a quantizer without projector; as [`align_projector`].
    pub fn align(&self, z: &Tensor) -> Result<()> {
        match &self.inner {
            Inner::Lc(lc) => lc.align(&to_rows(z)?.detach()),
            Inner::Vq(_) | Inner::Fc(_) | Inner::Ema(_) => Err(no_projector()),
        }
    }
}

fn no_projector() -> Error {
    Error::Config("only the lc quantizer with a projector has one".into())
}

/// `[b, d, h, w]` to f32 rows `[b*h*w, d]`, in the order (b, h, w). Differentiable.
fn to_rows(z: &Tensor) -> Result<Tensor> {
    let dim = z.dim(1)?;
    Ok(z.to_dtype(DType::F32)?
        .permute((0, 2, 3, 1))?
        .contiguous()?
        .reshape(((), dim))?)
}

/// Ids `[m]` of the entries nearest to the rows `z` `[m, d]`.
fn nearest(z: &Tensor, table: &Tensor) -> Result<Tensor> {
    Ok(vqlc_ops::tensor::nearest(&z.detach(), &table.detach())?)
}

fn checked_codebook(config: &QuantizerConfig, book: &Tensor, device: &Device) -> Result<Tensor> {
    let width = match config.kind {
        Kind::Lc if config.projector => None,
        Kind::Fc => Some(config.fc_dim),
        Kind::Lc | Kind::Vq | Kind::Ema => Some(config.dim),
    };
    let fits = match book.dims() {
        &[codes, found] => codes == config.codes && found > 0 && width.is_none_or(|w| w == found),
        _ => false,
    };
    if !fits {
        let width = width.map_or_else(|| "D".into(), |width| width.to_string());
        return Err(Error::Argument {
            what: "codebook",
            expected: format!("[{}, {width}]", config.codes),
            found: format!("{:?}", book.dims()),
        });
    }
    let book = book
        .detach()
        .to_device(device)?
        .to_dtype(DType::F32)?
        .contiguous()?;
    // A mean is finite only if all numbers are.
    if !book.abs()?.mean_all()?.to_scalar::<f32>()?.is_finite() {
        return Err(Error::Argument {
            what: "codebook",
            expected: "finite numbers".into(),
            found: "NaN or infinity".into(),
        });
    }
    Ok(book)
}

/// Builds a part with parameters drawn from `seed`, then sets the one called `name` to `start` where there is one.
fn with_start<T>(
    start: Option<Tensor>,
    name: &str,
    seed: u64,
    device: &Device,
    build: impl Fn(VarBuilder) -> candle_core::Result<T>,
) -> Result<(T, Params)> {
    let (part, params) = Params::random(seed, device, DType::F32, build)?;
    if let Some((start, var)) = start.zip(params.get(name)) {
        var.set(&start)?;
    }
    Ok((part, params))
}
