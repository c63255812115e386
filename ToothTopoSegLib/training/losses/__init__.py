"""Losses of the training: cross-entropy and Dice as nnU-Net uses them, with deep supervision."""
