"""What every node needs: parameters, life cycle, threads, signals, the files of config/."""
