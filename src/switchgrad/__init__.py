"""Switchgrad: convolutional networks whose backward pass follows the switches of max pooling."""

__version__ = "0.1.0"
