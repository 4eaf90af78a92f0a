"""What may be asked, from where, how often; every reason why not."""
