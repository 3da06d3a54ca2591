"""Prompt text: wildcards, LoRA tags, token counts."""
