//! Losses and gradients of the whole network: `vqgan.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Module as _, Result as TensorResult, Tensor, Var};
use candle_nn::VarBuilder;
use vqlc_model::{
    file::PROJECTOR,
    network::{Decoder, Encoder},
    params::Tensors,
    reference::{Comparison, ReferenceFile, vqgan_parameters},
};
use vqlc_ops::tensor::nearest;

use crate::{Error, Params, Result};

const FILE: &str = "vqgan.safetensors";

/// Runs encoder, quantizer and decoder of `folder`'s VQGAN-LC on `device`, forward and backward, and compares the losses, the gradient at
/// the latent and those of all trained parameters.
///
/// total = l1 + commit_weight * (commit + codebook_beta * codebook_loss), with the straight-through estimator between quantizer and
/// decoder (VQGAN-LC, arXiv 2406.11837, section 3).
///
/// # Errors
/// A folder that does not hold what it should; a trained parameter without a gradient.
pub fn compare_vqgan_gradients(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let malformed = |reason: String| Error::malformed(&folder.join(FILE), reason);
    let weight = |key: &str| {
        let found = stored.config().get(key).and_then(serde_json::Value::as_f64);
        found.ok_or_else(|| malformed(format!("configuration: no number {key}")))
    };
    let network = Network::new(&stored, device)?;
    let mut out = Vec::new();

    let x = stored.tensor("in.x", device)?;
    let latent = network.encoder.forward(&x)?;
    // A leaf of its own: the gradients of what lies between are not kept.
    let leaf = Var::from_tensor(&latent.detach())?;
    let z = leaf.as_tensor();
    let z_q = network.quantized(z)?;
    let straight_through = (z + (&z_q - z)?.detach())?;
    let recon = network.decoder.forward(&straight_through)?;
    let l1 = (&x - &recon)?.abs()?.mean_all()?;
    let commit = (z_q.detach() - z)?.sqr()?.mean_all()?;
    let codebook_loss = (&z_q - z.detach())?.sqr()?.mean_all()?;
    let quantizer = (&commit + (&codebook_loss * weight("codebook_beta")?)?)?;
    let total = (&l1 + (quantizer * weight("commit_weight")?)?)?;
    for (key, loss) in [
        ("out.l1", &l1),
        ("out.commit", &commit),
        ("out.codebook_loss", &codebook_loss),
        ("out.total", &total),
    ] {
        out.push(stored.compare(key, loss)?);
    }

    let behind = total.backward()?;
    let at_latent = behind.get(z);
    let at_latent = at_latent.ok_or_else(|| malformed("the latent has no gradient".into()))?;
    out.push(stored.compare("grad.z", at_latent)?);
    // Its gradient at the encoder is that of the total.
    let before = (&latent * at_latent)?.sum_all()?.backward()?;
    for (name, var) in network.trained.iter() {
        let found = before.get(var).or_else(|| behind.get(var));
        let found = found.ok_or_else(|| malformed(format!("{name} has no gradient")))?;
        out.push(stored.compare(&format!("grad.{name}"), found)?);
    }
    Ok(out)
}

/// The network, what is trained of it, and its static codebook.
struct Network {
    encoder: Encoder,
    decoder: Decoder,
    trained: Params,
    /// B `[n_codes, code_dim]`
    source: Tensor,
    /// P `[embed_dim, code_dim]`, `[embed_dim]`
    projector: [Tensor; 2],
}

impl Network {
    fn new(stored: &ReferenceFile, device: &Device) -> Result<Self> {
        let (config, tensors) = vqgan_parameters(stored)?;
        let (encoder, of_encoder) = part(&tensors, &["encoder.", "quant_conv."], device, |vb| {
            Encoder::new(&config, vb)
        })?;
        let (decoder, of_decoder) =
            part(&tensors, &["decoder.", "post_quant_conv."], device, |vb| {
                Decoder::new(&config, vb)
            })?;
        let (projector, of_projector) = part(&tensors, &PROJECTOR, device, |vb| {
            Ok([
                vb.get((config.embed_dim, config.code_dim), PROJECTOR[0])?,
                vb.get(config.embed_dim, PROJECTOR[1])?,
            ])
        })?;
        Ok(Self {
            encoder,
            decoder,
            trained: of_encoder.joined(of_decoder).joined(of_projector),
            source: stored.tensor("param.tok_embeddings.weight", device)?,
            projector,
        })
    }

    /// z `[b, embed_dim, h, w]` to the entries of B' = B P^T + bias nearest to it.
    fn quantized(&self, z: &Tensor) -> Result<Tensor> {
        let [weight, bias] = &self.projector;
        let table = self.source.matmul(&weight.t()?)?.broadcast_add(bias)?;
        let (batch, dim, rows, columns) = z.dims4()?;
        let queries = z.permute((0, 2, 3, 1))?.reshape(((), dim))?;
        let ids = nearest(&queries.detach(), &table.detach())?;
        let entries = table.index_select(&ids, 0)?;
        let entries = entries.reshape((batch, rows, columns, dim))?;
        Ok(entries.permute((0, 3, 1, 2))?.contiguous()?)
    }
}

/// A part of the network, of the parameters whose names start with one of `prefixes`.
fn part<T>(
    tensors: &Tensors,
    prefixes: &[&str],
    device: &Device,
    build: impl Fn(VarBuilder) -> TensorResult<T>,
) -> Result<(T, Params)> {
    let mut tensors = tensors.clone();
    tensors.retain(|name, _| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    Params::from_tensors(&tensors, device, DType::F32, build)
}
