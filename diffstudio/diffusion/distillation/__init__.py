"""Networks that learn from another one what takes it many steps."""
