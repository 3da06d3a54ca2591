"""The mathematics of diffusion: schedules, denoisers, guidance, noise, samplers, losses."""
