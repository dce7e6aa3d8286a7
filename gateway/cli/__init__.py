"""The commands gateway and gateway-admin, one file per noun."""
