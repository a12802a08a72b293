"""Files of mixtures and statistics: the formats of SIDEKIT, Kaldi, ALIZE, HTK, scikit-learn."""
