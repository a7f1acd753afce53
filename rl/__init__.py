"""Reinforcement learning over episodes, and what it came to."""
