//! The layers of transformers: one set for all of them.
//!
//! Parameters are f32 and the tokens between the layers too; products are taken in the dtype of the builder (F32 or BF16).

mod attention;
mod block;
mod layers;
mod mlp;
mod patches;

pub use attention::{Attention, Cache, CrossAttention, Mask};
pub use block::Block;
pub use layers::{LayerNorm, Linear, LinearInit};
pub use mlp::{Gelu, Mlp, TIMM};
pub use patches::{PatchEmbedding, Patches};
