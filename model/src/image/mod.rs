//! Pictures in and out: reading, preparing for the encoder, and writing what the decoder gives back.
//!
//! ```text
//! file -> read: 8-bit sRGB -> Preprocessing::prepare: [3,h,w] f32 in [-1,1] -> encoder
//! decoder -> to_rgb8: 8-bit sRGB, cropped to the content -> write: PNG, JPEG or WebP
//! ```
//!
//! [`read`] turns every supported kind of picture into 8-bit sRGB: upright (EXIF), opaque, three channels.
//! [`Preprocessing`] is the typed record of everything that happens between those bytes and the network; it is
//! stored in the token file, so that a reader knows what the ids describe.
//! This module knows nothing of networks, token files or command lines, and prints nothing.

mod color;
mod crop;
mod error;
mod fit;
mod icc;
mod jpeg;
mod plain;
mod raster;
mod read;
mod record;
mod resize;
mod tiff;
mod views;
mod write;

pub use crop::SquareCrop;
pub use error::ImageError;
pub use fit::Fit;
pub use read::{Icc, ReadOptions, Rgb, is_picture_name, read, read_bytes};
pub use record::{Prepared, Preprocessing, RECORD_LIMIT, RECORD_VERSION};
pub use views::Views;
pub use write::{JPEG_QUALITY, OutFormat, to_rgb8, write};
