"""Panoptic networks of Hugging Face's transformers, from a folder of its ``save_pretrained`` or from the hub."""
