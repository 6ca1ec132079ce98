"""Fine-tuning: recipes, checks of the data, training, model cards, verdicts, hard negatives."""
