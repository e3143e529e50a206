//! The VQGAN-LC tokenizer.
