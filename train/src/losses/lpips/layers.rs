//! The networks that LPIPS is built on, layer by layer.

use candle_core::{Result, Tensor};
use vqlc_ops::tensor::{Order, Window, max_pool2, max_pool3};

/// A network's convolutions up to its last rectifier. Each is followed by one; the output of each block's last is compared.
pub(super) struct Net {
    pub(super) name: &'static str,
    pub(super) blocks: [Block; 5],
    /// Of pictures, in pixels: smaller ones leave a layer nothing.
    pub(super) least_side: usize,
}

pub(super) struct Block {
    /// What is done before its first convolution.
    pub(super) pool: Pool,
    pub(super) convs: &'static [Conv],
}

/// Pooling by maximum, stride 2.
pub(super) enum Pool {
    None,
    Two,
    Three,
}

pub(super) struct Conv {
    /// torchvision's: `features.N`.
    pub(super) number: usize,
    pub(super) side: usize,
    stride: usize,
    padding: usize,
}

/// 3 x 3, padded so that the size stays.
const fn conv3(number: usize) -> Conv {
    conv(number, 3, 1, 1)
}

const fn conv(number: usize, side: usize, stride: usize, padding: usize) -> Conv {
    Conv {
        number,
        side,
        stride,
        padding,
    }
}

const fn block(pool: Pool, convs: &'static [Conv]) -> Block {
    Block { pool, convs }
}

/// Simonyan and Zisserman (2015), configuration D.
pub(super) static VGG16: Net = Net {
    name: "vgg",
    blocks: [
        block(Pool::None, &[conv3(0), conv3(2)]),
        block(Pool::Two, &[conv3(5), conv3(7)]),
        block(Pool::Two, &[conv3(10), conv3(12), conv3(14)]),
        block(Pool::Two, &[conv3(17), conv3(19), conv3(21)]),
        block(Pool::Two, &[conv3(24), conv3(26), conv3(28)]),
    ],
    least_side: 16,
};

/// Krizhevsky (2014), "one weird trick".
static ALEXNET: Net = Net {
    name: "alex",
    blocks: [
        block(Pool::None, &[conv(0, 11, 4, 2)]),
        block(Pool::Three, &[conv(3, 5, 1, 2)]),
        block(Pool::Three, &[conv3(6)]),
        block(Pool::None, &[conv3(8)]),
        block(Pool::None, &[conv3(10)]),
    ],
    least_side: 31,
};

impl Net {
    /// The one whose first convolution has these weights; VGG16 where there are none, to be missed.
    pub(super) fn of(first: Option<&Tensor>) -> &'static Self {
        match first.map(Tensor::dims) {
            Some([_, _, 11, 11]) => &ALEXNET,
            _ => &VGG16,
        }
    }
}

impl Pool {
    pub(super) fn of(&self, x: &Tensor, order: Order) -> Result<Tensor> {
        match self {
            Self::None => Ok(x.clone()),
            Self::Two => max_pool2(x, order),
            Self::Three => {
                let window = Window {
                    stride: 2,
                    padding: (0, 0),
                };
                order.around(x, |x| max_pool3(x, window))
            }
        }
    }
}

impl Conv {
    pub(super) fn window(&self) -> Window {
        Window {
            stride: self.stride,
            ..Window::same(self.padding)
        }
    }
}
