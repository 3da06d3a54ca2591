"""What conditions a denoiser: weighted prompts, textual inversions, ControlNets."""
