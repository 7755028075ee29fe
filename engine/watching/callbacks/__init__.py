"""`finetui.watch` for people whose loop is a library's: Lightning, the Hugging Face Trainer, Ignite."""
