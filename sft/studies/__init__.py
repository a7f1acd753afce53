"""What the studies are made of: arms, runs, and what came out."""
