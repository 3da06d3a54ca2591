"""LoRA, LoHa, LoKr, DoRA and full-rank adapters on a loaded model."""
