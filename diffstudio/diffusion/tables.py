"""Published tables of schedules and spacings, shared by the mathematics with torch and the plots without it."""

from __future__ import annotations

SMALLEST_FLOW_TIME = 0.001  # before the shift: flow models are trained on 1000 timesteps

# Sabour et al. 2024 (arXiv 2404.14507), published for ten steps: sigma / alpha, the last value replacing the clean
# image.
ALIGNED_SD15 = (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
                0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582)  # fmt: skip
ALIGNED_SDXL = (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
                0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582)  # fmt: skip
ALIGNED_SVD = (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)
