//! Parts of training against tensors of an independent implementation, on values and gradients (`vqlc selftest --reference`, the
//! parity tests). Each module runs one file of a reference folder; see [`vqlc_model::reference`].

pub mod adam_steps;
pub mod discriminator;
pub mod lpips;
pub mod quantizer_variants;
pub mod vqgan_gradients;
