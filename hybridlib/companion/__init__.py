"""What makes hybridlib the companion of arXiv 2408.10536; the library never imports it."""
