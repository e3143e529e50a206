//! Progress and results, shared by the commands.
