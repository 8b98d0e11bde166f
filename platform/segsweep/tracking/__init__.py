"""Recording a sweep in MLflow: the only package that imports mlflow, and only inside functions."""
