"""Distillation: networks that learn to do in few steps what another one does in many."""
