"""The study of structures: the same backbone, parameters, frames and episodes; only the structure differs."""
