"""Training on phantoms: cached cases, augmentation, losses, the resumable loop and the recipe of the bundled model."""
