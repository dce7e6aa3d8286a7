"""Certificates: our small CA, and from when until when those in use are valid."""
