"""The Gallery room: every image with its settings."""
