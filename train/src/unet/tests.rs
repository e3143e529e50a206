use candle_core::{DType, Device, Tensor, Var};

use super::*;
use crate::{Params, Result, diffusion::Denoiser, optim::Grads};

fn config() -> UnetConfig {
    UnetConfig {
        channels: 3,
        rows: 8,
        cols: 16,
        classes: 4,
        base: 8,
        mult: vec![2, 1, 2],
        blocks: 2,
        attention: vec![false, true, false],
        heads: 2,
        context: 6,
        groups: 4,
    }
}

fn build(config: &UnetConfig) -> Result<(Unet, Params)> {
    Params::random(1, &Device::Cpu, DType::F32, |vb| {
        Unet::new(config.clone(), &vb)
    })
}

fn inputs() -> candle_core::Result<(Tensor, Tensor, Tensor)> {
    let mut rng = vqlc_model::rng::Rng::new(2);
    let values: Vec<f32> = (0..2 * 3 * 8 * 16).map(|_| rng.normal() as f32).collect();
    Ok((
        Tensor::from_vec(values, (2, 3, 8, 16), &Device::Cpu)?,
        Tensor::new(&[0f32, 640.0], &Device::Cpu)?,
        Tensor::new(&[1u32, 4], &Device::Cpu)?,
    ))
}

/// Latents that are no squares, levels without attention, a first level that is not the base's, two blocks a level.
#[test]
fn a_gradient_reaches_every_parameter() -> Result<()> {
    let (unet, params) = build(&config())?;
    let (x, t, classes) = inputs()?;
    let new = unet.predict(&x, &t, &classes)?;
    assert_eq!(new.dims(), x.dims());
    // The last convolution starts at 0.
    assert_eq!(new.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);

    // As if trained: nothing is 0.
    for (i, (_, var)) in params.iter().enumerate() {
        let mut rng = vqlc_model::rng::Rng::new(i as u64);
        let values: Vec<f32> = (0..var.elem_count())
            .map(|_| 0.1 * rng.normal() as f32)
            .collect();
        let added = Tensor::from_vec(values, var.shape(), &Device::Cpu)?;
        var.set(&(var.as_tensor() + added)?)?;
    }
    let x = Var::from_tensor(&x)?;
    let grads = unet
        .predict(&x, &t, &classes)?
        .sqr()?
        .mean_all()?
        .backward()?;
    assert!(grads.get(&x).is_some());
    let grads = Grads::of(&grads, &params)?;
    for (name, var) in params.iter() {
        let grad = grads.get(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(grad.dims(), var.dims());
        let largest = grad.abs()?.max_all()?.to_scalar::<f32>()?;
        // With one token to attend to, what the query is does not matter.
        let idle = ["attn2.to_q", "attn2.to_k", ".norm2."];
        assert!(
            largest > 0.0 || idle.iter().any(|part| name.contains(part)),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn names_are_those_of_published_checkpoints() -> Result<()> {
    let (_, params) = build(&config())?;
    for (name, shape) in [
        ("time_embed.2.weight", vec![32, 32]),
        ("input_blocks.0.0.weight", vec![8, 3, 3, 3]),
        ("input_blocks.3.0.op.weight", vec![16, 16, 3, 3]),
        ("input_blocks.4.0.skip_connection.weight", vec![8, 16, 1, 1]),
        (
            "input_blocks.5.1.transformer_blocks.0.ff.net.0.proj.weight",
            vec![64, 8],
        ),
        ("middle_block.1.proj_out.weight", vec![16, 16, 1, 1]),
        ("output_blocks.2.1.conv.weight", vec![16, 16, 3, 3]),
        ("output_blocks.5.2.conv.weight", vec![8, 8, 3, 3]),
        ("output_blocks.8.0.emb_layers.1.weight", vec![16, 32]),
        ("out.2.weight", vec![3, 16, 3, 3]),
        ("cond_stage.embedding.weight", vec![5, 6]),
    ] {
        let found = params.get(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.dims(), shape, "{name}");
    }
    assert!(params.get("output_blocks.8.1.conv.weight").is_none());
    Ok(())
}

#[test]
fn what_it_was_not_built_for_is_an_error() -> Result<()> {
    let (unet, _) = build(&config())?;
    let (x, t, classes) = inputs()?;
    assert_eq!(unet.null(), 4);
    assert!(unet.predict(&x.t()?.contiguous()?, &t, &classes).is_err());
    let beyond = Tensor::new(&[1u32, 5], &Device::Cpu)?;
    assert!(unet.predict(&x, &t, &beyond).is_err());
    Ok(())
}

#[test]
fn sizes_are_checked() {
    let bad = |change: fn(&mut UnetConfig)| {
        let mut config = config();
        change(&mut config);
        let error = config.check().expect_err("a bad configuration").to_string();
        assert!(build(&config).is_err());
        error
    };
    assert!(config().check().is_ok());
    for (error, word) in [
        (bad(|c| c.rows = 6), "rows"),
        (bad(|c| c.cols = 0), "cols"),
        (bad(|c| c.base = 9), "base"),
        (bad(|c| c.mult.clear()), "levels"),
        (bad(|c| c.mult[1] = 0), "channels"),
        (bad(|c| c.mult[1] = usize::MAX), "channels"),
        (bad(|c| c.attention.truncate(2)), "attention"),
        (bad(|c| c.groups = 3), "groups"),
        (bad(|c| c.heads = 3), "heads"),
    ] {
        assert!(error.contains(word), "{error}");
    }
}
