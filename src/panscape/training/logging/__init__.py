"""What a training reports: progress, events, curves, sample images."""
