"""The whole application, without a screen."""
