"""Thresholds on the joint score: chosen by risk control on calibration images, measured on test images."""
