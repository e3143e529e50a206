//! The GPT: `gpt.safetensors`.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Error, Params, Result,
    gpt::{CrossEntropy, Decoder, Embedding, Gpt, GptConfig, linear_cross_entropy},
    optim::Grads,
};

const FILE: &str = "gpt.safetensors";

/// Runs the GPT reference of `folder` on `device` and compares logits, losses, gradients and continuations, with and without guidance.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_gpt(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let malformed = |key: &str| Error::malformed(&folder.join(FILE), format!("no {key}"));
    let number = |key: &str| {
        let value = stored.config().get(key).and_then(|v| v.as_u64());
        value.map(|n| n as usize).ok_or_else(|| malformed(key))
    };
    let config = GptConfig {
        codes: number("n_codes")?,
        classes: number("n_class")?,
        tokens: number("block_size")?,
        width: number("n_embd")?,
        layers: number("n_layer")?,
        heads: number("n_head")?,
        embedding: Embedding::Learnt,
        tied: false,
    };
    let parameters = stored.parameters("param.")?;
    let (gpt, params) = Params::from_tensors(&parameters, device, DType::F32, |vb| {
        Gpt::new(config, None, &vb)
    })?;
    let tokens = |key: &str| -> Result<Tensor> {
        let shape = stored.shape(key)?;
        Ok(Tensor::from_vec(stored.integers(key)?, shape, device)?)
    };

    let tables = gpt.tables()?;
    let hidden = gpt
        .hidden(&tables, &tokens("in.input_ids")?)?
        .flatten_to(1)?;
    let logits = hidden.matmul(&tables.head.t()?)?;
    let logits = logits.reshape(stored.shape("out.logits")?)?;
    let mut made = vec![stored.compare("out.logits", &logits)?];
    let targets = tokens("in.codes")?.flatten_all()?;
    let over = Some(config.codes);
    for (key, how) in [
        ("out.ce", CrossEntropy::default()),
        (
            "out.ce_codes_only",
            CrossEntropy {
                over,
                ..CrossEntropy::default()
            },
        ),
        (
            "out.ce_smooth",
            CrossEntropy {
                smoothing: 0.1,
                ..CrossEntropy::default()
            },
        ),
    ] {
        made.push(stored.compare(key, &how.loss(&hidden, &tables.head, &targets)?)?);
    }
    // Seven rows at a time, so that parts are summed and the last is smaller.
    let held = 7 * config.vocabulary();
    let how = CrossEntropy::default();
    let loss = linear_cross_entropy(how, &hidden, &tables.head, &targets, held)?;
    made.push(stored.compare("out.ce", &loss)?);
    let grads = Grads::of(&loss.backward()?, &params)?;
    for (name, grad) in grads.iter() {
        made.push(stored.compare(&format!("grad.{name}"), grad)?);
    }

    let (prompt, new) = (tokens("in.prompt")?, number("new")?);
    let scale = stored.config().get("cfg_scale").and_then(|v| v.as_f64());
    let scale = scale.ok_or_else(|| malformed("cfg_scale"))?;
    let (ids, _, last) = greedy(&gpt, &prompt, new, 1.0)?;
    made.push(stored.compare("out.greedy", &ids)?);
    made.push(stored.compare("out.greedy_last_logits", &last)?);
    let (ids, first, last) = greedy(&gpt, &prompt, new, scale)?;
    made.push(stored.compare("out.greedy_cfg", &ids)?);
    made.push(stored.compare("out.cfg_first_logits", &first)?);
    made.push(stored.compare("out.cfg_last_logits", &last)?);
    Ok(made)
}

/// The likeliest ids after `prompt` `[b, t]`, `[b, new]`, and the logits that the first and the last were chosen by.
fn greedy(
    gpt: &Gpt,
    prompt: &Tensor,
    new: usize,
    guidance: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let mut decoder = Decoder::new(gpt, guidance)?;
    let first = decoder.push(prompt)?;
    let (mut logits, mut ids) = (first.clone(), Vec::new());
    loop {
        let next = logits.argmax_keepdim(D::Minus1)?;
        ids.push(next.clone());
        if ids.len() >= new {
            return Ok((Tensor::cat(&ids, 1)?, first, logits));
        }
        logits = decoder.push(&next)?;
    }
}
