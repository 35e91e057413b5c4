"""From predictions and references to scores that can be resampled, gathered and compared."""
