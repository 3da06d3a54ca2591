"""Pipelines of diffusers that sample by themselves."""
