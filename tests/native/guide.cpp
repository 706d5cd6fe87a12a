// C++ deployment wrapper
#include <tessera/runtime.h>

class TesseraModel {
public:
    TesseraModel(const std::string& package_path) {
        // Load deployment package
        runtime_ = tessera::Runtime::load(package_path);
        
        // Initialize on current GPU
        runtime_->initialize();
    }
    
    tessera::Tensor forward(const tessera::Tensor& input) {
        // Run inference
        return runtime_->execute("forward", {input});
    }
    
private:
    std::unique_ptr<tessera::Runtime> runtime_;
};

// Usage
int main() {
    TesseraModel model("model_deployment.tsd");
    
    // Create input
    auto input = tessera::Tensor::randn({1, 512, 1024});
    
    // Run inference
    auto output = model.forward(input);
    
    return 0;
}
