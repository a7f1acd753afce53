"""The policy that plays: models, chat template, generation, rollouts, evaluation."""
