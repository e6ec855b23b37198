"""Pictures that tell what a trained model looks at."""
