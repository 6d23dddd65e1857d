"""Files: JSON, safetensors, and folders that are saved whole."""
