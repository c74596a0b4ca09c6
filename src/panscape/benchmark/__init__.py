"""Speed and memory of models by stage, measured side by side; `panscape benchmark`."""
