"""A certificate authority whose keys live in PKCS#11 tokens.

This package knows neither ``station`` nor ``firmware_tools``.
"""
