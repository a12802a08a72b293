"""Mixtures and statistics in files: SIDEKIT, Kaldi, ALIZE, HTK, scikit-learn."""
