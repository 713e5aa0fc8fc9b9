"""Priors: denoisers D(x; sigma, c) with one contract, `text23d.contracts.Denoiser`."""
