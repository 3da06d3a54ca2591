"""The Gallery room: every picture, its settings, and what can be done with it."""
