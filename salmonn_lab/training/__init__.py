"""What a training run writes while it goes on: checkpoints and metrics that survive a kill at any moment."""
