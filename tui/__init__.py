"""finetui's terminal side: the command line and the dashboard. It never imports torch."""
