"""What decoding keeps of earlier positions."""
