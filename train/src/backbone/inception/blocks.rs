//! The five kinds of block: branches side by side, their channels behind each other.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor::{Window, average_pool3, max_pool3};

use super::conv::Conv;

/// A step of the network or of a branch.
#[derive(Debug)]
pub(super) enum Layer {
    Conv(Conv),
    Block(Block),
    /// The greatest of 3 x 3, stride 2.
    Halve,
    /// The mean of 3 x 3, stride 1.
    Average,
    /// The greatest of 3 x 3, stride 1.
    Greatest,
}

impl Layer {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Block(block) => block.forward(x),
            Self::Halve => {
                let window = Window {
                    stride: 2,
                    padding: (0, 0),
                };
                max_pool3(x, window)
            }
            Self::Average => average_pool3(x),
            Self::Greatest => max_pool3(x, Window::same(1)),
        }
    }
}

/// Branches that all read the block's input; what they make is joined by channels.
#[derive(Debug)]
pub(super) struct Block(Vec<Branch>);

/// Layers one after the other, and what reads the last one's output side by side (none: it is the output).
#[derive(Debug)]
struct Branch {
    layers: Vec<Layer>,
    forks: Vec<Conv>,
}

impl Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut made = Vec::new();
        for branch in &self.0 {
            let mut y = x.clone();
            for layer in &branch.layers {
                y = layer.forward(&y)?;
            }
            if branch.forks.is_empty() {
                made.push(y);
            } else {
                for fork in &branch.forks {
                    made.push(fork.forward(&y)?);
                }
            }
        }
        Tensor::cat(&made, 1)
    }

    /// Figure 5 of Szegedy et al. (2016), with 5 x 5 kept; `pooled` channels behind the pooling.
    pub(super) fn a(vb: &VarBuilder, inputs: usize, pooled: usize) -> Result<Self> {
        let of = Parts(vb);
        Ok(Self(vec![
            branch(vec![of.one("branch1x1", inputs, 64)?]),
            branch(vec![
                of.one("branch5x5_1", inputs, 48)?,
                of.square("branch5x5_2", 48, 64, 5, 1, 2)?,
            ]),
            branch(vec![
                of.one("branch3x3dbl_1", inputs, 64)?,
                of.square("branch3x3dbl_2", 64, 96, 3, 1, 1)?,
                of.square("branch3x3dbl_3", 96, 96, 3, 1, 1)?,
            ]),
            branch(vec![Layer::Average, of.one("branch_pool", inputs, pooled)?]),
        ]))
    }

    /// From 35 x 35 to 17 x 17.
    pub(super) fn b(vb: &VarBuilder, inputs: usize) -> Result<Self> {
        let of = Parts(vb);
        Ok(Self(vec![
            branch(vec![of.square("branch3x3", inputs, 384, 3, 2, 0)?]),
            branch(vec![
                of.one("branch3x3dbl_1", inputs, 64)?,
                of.square("branch3x3dbl_2", 64, 96, 3, 1, 1)?,
                of.square("branch3x3dbl_3", 96, 96, 3, 2, 0)?,
            ]),
            branch(vec![Layer::Halve]),
        ]))
    }

    /// Figure 6: 7 x 7 as lines; `inner` channels between them.
    pub(super) fn c(vb: &VarBuilder, inputs: usize, inner: usize) -> Result<Self> {
        let of = Parts(vb);
        Ok(Self(vec![
            branch(vec![of.one("branch1x1", inputs, 192)?]),
            branch(vec![
                of.one("branch7x7_1", inputs, inner)?,
                of.across("branch7x7_2", inner, inner)?,
                of.down("branch7x7_3", inner, 192)?,
            ]),
            branch(vec![
                of.one("branch7x7dbl_1", inputs, inner)?,
                of.down("branch7x7dbl_2", inner, inner)?,
                of.across("branch7x7dbl_3", inner, inner)?,
                of.down("branch7x7dbl_4", inner, inner)?,
                of.across("branch7x7dbl_5", inner, 192)?,
            ]),
            branch(vec![Layer::Average, of.one("branch_pool", inputs, 192)?]),
        ]))
    }

    /// From 17 x 17 to 8 x 8.
    pub(super) fn d(vb: &VarBuilder, inputs: usize) -> Result<Self> {
        let of = Parts(vb);
        Ok(Self(vec![
            branch(vec![
                of.one("branch3x3_1", inputs, 192)?,
                of.square("branch3x3_2", 192, 320, 3, 2, 0)?,
            ]),
            branch(vec![
                of.one("branch7x7x3_1", inputs, 192)?,
                of.across("branch7x7x3_2", 192, 192)?,
                of.down("branch7x7x3_3", 192, 192)?,
                of.square("branch7x7x3_4", 192, 192, 3, 2, 0)?,
            ]),
            branch(vec![Layer::Halve]),
        ]))
    }

    /// Figure 7; `pool` is what its last branch starts with.
    pub(super) fn e(vb: &VarBuilder, inputs: usize, pool: Layer) -> Result<Self> {
        let of = Parts(vb);
        let forks = |a: &str, b: &str| {
            Ok::<_, candle_core::Error>(vec![
                Conv::line(&vb.pp(a), 384, 384, 3, false)?,
                Conv::line(&vb.pp(b), 384, 384, 3, true)?,
            ])
        };
        Ok(Self(vec![
            branch(vec![of.one("branch1x1", inputs, 320)?]),
            Branch {
                layers: vec![of.one("branch3x3_1", inputs, 384)?],
                forks: forks("branch3x3_2a", "branch3x3_2b")?,
            },
            Branch {
                layers: vec![
                    of.one("branch3x3dbl_1", inputs, 448)?,
                    of.square("branch3x3dbl_2", 448, 384, 3, 1, 1)?,
                ],
                forks: forks("branch3x3dbl_3a", "branch3x3dbl_3b")?,
            },
            branch(vec![pool, of.one("branch_pool", inputs, 192)?]),
        ]))
    }
}

fn branch(layers: Vec<Layer>) -> Branch {
    Branch {
        layers,
        forks: vec![],
    }
}

/// The convolutions of a block, by name.
struct Parts<'a>(&'a VarBuilder<'a>);

impl Parts<'_> {
    fn one(&self, name: &str, inputs: usize, outputs: usize) -> Result<Layer> {
        self.square(name, inputs, outputs, 1, 1, 0)
    }

    fn square(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        side: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Layer> {
        let conv = Conv::square(&self.0.pp(name), (inputs, outputs, side), stride, padding)?;
        Ok(Layer::Conv(conv))
    }

    fn across(&self, name: &str, inputs: usize, outputs: usize) -> Result<Layer> {
        let conv = Conv::line(&self.0.pp(name), inputs, outputs, 7, false)?;
        Ok(Layer::Conv(conv))
    }

    fn down(&self, name: &str, inputs: usize, outputs: usize) -> Result<Layer> {
        let conv = Conv::line(&self.0.pp(name), inputs, outputs, 7, true)?;
        Ok(Layer::Conv(conv))
    }
}
