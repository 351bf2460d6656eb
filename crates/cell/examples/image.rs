//! Makes or imports one image from the command line: `image DATA build NAME | import PATH NAME | pull NAME | ls`.

use std::path::Path;

use cell::image::{ImageStore, Progress};
use dial::{Dialer, Network};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let progress = Progress::new(|step| eprintln!("{step}"));
    let (data, rest) = args.split_first().ok_or("no data folder")?;
    let store = ImageStore::open(Path::new(data), Dialer::new(Network::default())?)?;
    let started = std::time::Instant::now();
    let image = match rest {
        ["build", name] => store.build(&name.parse()?, &progress).await,
        ["import", path] => store.import(Path::new(path), None, &progress).await,
        ["import", path, name] => store.import(Path::new(path), Some(&name.parse()?), &progress).await,
        ["pull", name] => store.pull(&name.parse()?, &progress).await,
        ["ls"] => {
            eprintln!("{:#?}", store.list()?);
            return Ok(());
        }
        _ => return Err("usage: image DATA build NAME | import PATH [NAME] | pull NAME | ls".into()),
    };
    match image {
        Ok(image) => eprintln!("{image:#?}\n{:?}", started.elapsed()),
        Err(error) => {
            let mut next: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = next {
                eprintln!("{error}");
                next = error.source();
            }
        }
    }
    Ok(())
}
