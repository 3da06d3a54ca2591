"""Devices, memory estimates, offloading, the out-of-memory fallback and the accelerator lease."""
